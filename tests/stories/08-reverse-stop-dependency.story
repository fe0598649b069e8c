# The other side of the reverse stop: MySQL is to stop, and waits until the broker on the other machine has let go.

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

stop mysql@mysql1
show mysql@mysql1
----
event: mysql@mysql1 held: by alice
save: mysql@mysql1 is held by alice
event: mysql@mysql1 leaving: held by alice
tell: mysql@mysql1 is stopping, vetoed
reply: mysql@mysql1 stopping: held by alice; waits for activemq@mq1 (ready)
mysql@mysql1 is stopping (held): held by alice; waits for activemq@mq1 (ready)

# The veto is renewed while it stands.
after 2s
----
[998ms later]
tell: mysql@mysql1 is stopping, vetoed
[1.998s later]
tell: mysql@mysql1 is stopping, vetoed

peer activemq@mq1 stopping
----
tell: mysql@mysql1 is stopping, vetoed

peer activemq@mq1 waiting released mysql@mysql1
----
event: mysql@mysql1 stopping: held by alice
signal 15 to mysql@mysql1
tell: mysql@mysql1 is stopping, vetoed
ask mysql@mysql1 no more

exited mysql@mysql1 code 0
swept mysql@mysql1
show mysql@mysql1
----
event: mysql@mysql1 exited: exit code 0
sweep mysql@mysql1
tell: mysql@mysql1 is stopping, vetoed
event: mysql@mysql1 stopped: nothing of it runs
tell: mysql@mysql1 is stopped
mysql@mysql1 is stopped (held): held by alice

start mysql@mysql1
----
event: mysql@mysql1 released: by alice
save: mysql@mysql1 is to be up
clean mysql@mysql1
tell: mysql@mysql1 is cleaning
reply: mysql@mysql1 cleaning: judges what an earlier run left behind

