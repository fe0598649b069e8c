# A broker dies because its database went. That is not its failure: it waits, and is not counted.

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

# The loss is found out only after the exit.
exited activemq@mq1 code 1
----
event: activemq@mq1 exited: exit code 1
event: activemq@mq1 backoff: exit code 1; next start in 1.0 s
verify mysql@mysql1
tell: activemq@mq1 is backoff
ask activemq@mq1 no more

answer mysql@mysql1 refused
show activemq@mq1
----
event: activemq@mq1 excused: a need had been lost when it exited; the failure is not counted
tell: activemq@mq1 is waiting
ask mysql@mysql1 fast
ask mysql@mysql2 fast
activemq@mq1 is waiting: waits for mysql (any, 0 of 1)
  needs mysql any: unmet, 0 of 1

