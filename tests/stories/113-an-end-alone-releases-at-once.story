# The broker is told to stop, and has ended alone in its cgroup. Whether anything got away from there takes a look at all
# processes; the database is not held up for that.

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
on mq1

searched all nothing
answer mysql@mysql1 ready
cleaned activemq@mq1 clear
answer mysql@mysql1 ready
spawned activemq@mq1 412
own activemq@mq1 ready
----
tell: activemq@mq1 is waiting
ask mysql@mysql1 fast
clean activemq@mq1
tell: activemq@mq1 is cleaning
ask mysql@mysql1 every 5s
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

peer mysql@mysql1 stopping veto 77
----
event: activemq@mq1 leaving: its need mysql would be lost: mysql@mysql1 is being stopped (held by alice)
event: activemq@mq1 stopping: its need mysql would be lost: mysql@mysql1 is being stopped (held by alice)
signal 15 to activemq@mq1
tell: activemq@mq1 is stopping, vetoed
ask activemq@mq1 no more

exited activemq@mq1 code 0 alone
----
event: activemq@mq1 exited: exit code 0
sweep activemq@mq1
tell: activemq@mq1 is stopping, vetoed, has released mysql@mysql1

swept activemq@mq1
----
event: activemq@mq1 stopped: nothing of it runs
tell: activemq@mq1 is waiting, has released mysql@mysql1
ask mysql@mysql1 fast
