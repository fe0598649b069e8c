# A need that is met, then lost before the exec: it waits again, and nothing is started.

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
answer mysql@mysql1 ready
cleaned activemq@mq1 clear
----
tell: activemq@mq1 is waiting
ask mysql@mysql1 fast
ask mysql@mysql2 fast
clean activemq@mq1
tell: activemq@mq1 is cleaning
ask mysql@mysql1 every 5s
ask mysql@mysql2 every 5s
verify mysql@mysql1
tell: activemq@mq1 is cleaning

answer mysql@mysql1 refused
show activemq@mq1
----
tell: activemq@mq1 is waiting
ask mysql@mysql1 fast
ask mysql@mysql2 fast
activemq@mq1 is waiting: waits for mysql (any, 0 of 1)
  needs mysql any: unmet, 0 of 1

answer mysql@mysql2 ready
cleaned activemq@mq1 clear
late answer mysql@mysql2 ready
----
clean activemq@mq1
tell: activemq@mq1 is cleaning
ask mysql@mysql1 every 5s
ask mysql@mysql2 every 5s
verify mysql@mysql2
tell: activemq@mq1 is cleaning

answer mysql@mysql2 ready
----
spawn activemq@mq1 (start 1)
tell: activemq@mq1 is starting
ask activemq@mq1 fast

