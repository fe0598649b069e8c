# An operator holds MySQL, and its stop waits six seconds for ActiveMQ, whose agent does not answer. Another one orders a
# restart with less patience. A hold goes before a restart: it is neither hurried nor taken back by it.

cluster
[cluster]
name = "shop"
[nodes]
mq = { mq1 = "10.0.0.31" }
mysql = { mysql1 = "10.0.0.51" }
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
on mysql1

searched all nothing
cleaned mysql@mysql1 clear
spawned mysql@mysql1 300
own mysql@mysql1 ready
peer activemq@mq1 ready
lost mq1
stop mysql@mysql1 within 6s
----
clean mysql@mysql1
tell: mysql@mysql1 is cleaning
spawn mysql@mysql1 (start 1)
tell: mysql@mysql1 is starting
ask mysql@mysql1 fast
event: mysql@mysql1 started: pid 300
verify mysql@mysql1
event: mysql@mysql1 ready: ready (fine)
tell: mysql@mysql1 is ready
ask mysql@mysql1 every 5s
event: mysql@mysql1 held: by alice
save: mysql@mysql1 is held by alice
event: mysql@mysql1 leaving: held by alice
tell: mysql@mysql1 is stopping, vetoed
reply: mysql@mysql1 stopping: held by alice; waits for activemq@mq1 (its agent does not answer; last heard ready)

restart mysql@mysql1 within 2s
after 3s
show mysql@mysql1
----
event: mysql@mysql1 restart-ordered: by alice
reply: mysql@mysql1 stopping: held by alice; waits for activemq@mq1 (its agent does not answer; last heard ready)
[998ms later]
tell: mysql@mysql1 is stopping, vetoed
[1.998s later]
tell: mysql@mysql1 is stopping, vetoed
[2.998s later]
tell: mysql@mysql1 is stopping, vetoed
mysql@mysql1 is stopping (held): held by alice; waits for activemq@mq1 (its agent does not answer; last heard ready)

# When the six seconds are over, the stop is given up.
after 4s
show mysql@mysql1
----
[996ms later]
tell: mysql@mysql1 is stopping, vetoed
[1.996s later]
tell: mysql@mysql1 is stopping, vetoed
[2.996s later]
tell: mysql@mysql1 is ready
save: mysql@mysql1 is to be up
event: mysql@mysql1 stop-given-up: not stopped: after 6 s these dependents had not let go: activemq@mq1
event: mysql@mysql1 stays: need not stop any more
verify mysql@mysql1
event: mysql@mysql1 ready: ready (fine)
tell: mysql@mysql1 is ready
mysql@mysql1 is ready: ready (fine)
