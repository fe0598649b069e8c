# MySQL is lost while the broker serves: the broker is left alone (on-loss is keep), and the view tells the truth
# about both. One bad answer is no loss; three in a row are.

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
answer mysql@mysql2 refused
cleaned activemq@mq1 clear
answer mysql@mysql1 ready
spawned activemq@mq1 412
own activemq@mq1 ready
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
spawn activemq@mq1 (start 1)
tell: activemq@mq1 is starting
ask activemq@mq1 fast
event: activemq@mq1 started: pid 412, after mysql@mysql1 (fine)
verify activemq@mq1
event: activemq@mq1 ready: ready (fine)
tell: activemq@mq1 is ready
ask activemq@mq1 every 5s

answer mysql@mysql1 refused
----

after 500ms
answer mysql@mysql1 refused
after 500ms
answer mysql@mysql1 refused
show activemq@mq1
----
[494ms later]
verify mysql@mysql2
[499ms later]
verify mysql@mysql1
[499ms later]
verify mysql@mysql1
event: activemq@mq1 need-lost: lost its need mysql: mysql (any, 0 of 1)
activemq@mq1 is ready: ready (fine)
  needs mysql any: unmet, 0 of 1

answer mysql@mysql1 ready
show activemq@mq1
----
event: activemq@mq1 need-found: has its need mysql again
activemq@mq1 is ready: ready (fine)
  needs mysql any: met, 1 of 1

