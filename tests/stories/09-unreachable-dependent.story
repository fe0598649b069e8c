# A stop with a dependent that cannot be reached: it waits, then is given up, with nothing stopped. --without is the
# operator's way round.

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

stop mysql@mysql1 within 3s
----
event: mysql@mysql1 held: by alice
save: mysql@mysql1 is held by alice
event: mysql@mysql1 leaving: held by alice
tell: mysql@mysql1 is stopping, vetoed
reply: mysql@mysql1 stopping: held by alice; waits for activemq@mq1 (its agent does not answer; last heard ready)

after 4s
show mysql@mysql1
----
[999ms later]
tell: mysql@mysql1 is stopping, vetoed
[1.999s later]
tell: mysql@mysql1 is stopping, vetoed
[2.999s later]
tell: mysql@mysql1 is ready
save: mysql@mysql1 is to be up
event: mysql@mysql1 stop-given-up: not stopped: after 3 s these dependents had not let go: activemq@mq1
event: mysql@mysql1 stays: need not stop any more
verify mysql@mysql1
event: mysql@mysql1 ready: ready (fine)
tell: mysql@mysql1 is ready
mysql@mysql1 is ready: ready (fine)

own mysql@mysql1 ready
stop mysql@mysql1 without mq1
----
event: mysql@mysql1 held: by alice
save: mysql@mysql1 is held by alice
event: mysql@mysql1 leaving: held by alice
event: mysql@mysql1 stopping: held by alice
signal 15 to mysql@mysql1
tell: mysql@mysql1 is stopping, vetoed
ask mysql@mysql1 no more
reply: mysql@mysql1 stopping: held by alice

