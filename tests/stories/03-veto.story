# A veto: a MySQL that is being stopped still answers, and nothing may start on it. The veto dies with its stream,
# or 3 s after its last renewal.

cluster
[cluster]
name = "shop"
[nodes]
mq = { mq1 = "10.0.0.31" }
mysql = { mysql1 = "10.0.0.51", mysql2 = "10.0.0.52" }
[services]
mysql = { on = "mysql" }
activemq = { on = "mq", needs.mysql = "any" }
end
unit mysql
[run]
command = ["/usr/sbin/mysqld"]
[ready]
probe = { kind = "tcp", port = 9306 }
end
unit activemq
[run]
command = ["/usr/bin/activemq"]
[ready]
probe = { kind = "tcp", port = 61617 }
end
on mq1

searched all nothing
peer mysql@mysql1 stopping veto 7
answer mysql@mysql1 ready
show activemq@mq1
----
tell: activemq@mq1 is waiting
ask mysql@mysql1 fast
ask mysql@mysql2 fast
tell: activemq@mq1 is waiting, has released mysql@mysql1
activemq@mq1 is waiting: waits for mysql (any, 0 of 1)
  needs mysql any: unmet, 0 of 1

# It is not renewed.
after 4s
----
[2.997s later]
clean activemq@mq1
tell: activemq@mq1 is cleaning
ask mysql@mysql1 every 5s
ask mysql@mysql2 every 5s

peer mysql@mysql1 stopping veto 8
----
tell: activemq@mq1 is cleaning, has released mysql@mysql1
ask mysql@mysql1 fast
ask mysql@mysql2 fast

lost mysql1
----
tell: activemq@mq1 is cleaning
ask mysql@mysql1 every 5s
ask mysql@mysql2 every 5s

