# ActiveMQ keeps its messages in MySQL, on another machine. It is started once MySQL has answered from this node,
# and only by an answer that was begun after the cleaning.

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
answer mysql@mysql1 refused
answer mysql@mysql2 refused
show activemq@mq1
----
tell: activemq@mq1 is waiting
ask mysql@mysql1 fast
ask mysql@mysql2 fast
activemq@mq1 is waiting: waits for mysql (any, 0 of 1)
  needs mysql any: unmet, 0 of 1

# The other agent's word vouches for nothing: it makes us look sooner.
peer mysql@mysql1 ready
----
clean activemq@mq1
tell: activemq@mq1 is cleaning

answer mysql@mysql1 ready
----
ask mysql@mysql1 every 5s
ask mysql@mysql2 every 5s

# The answer from before the cleaning is not enough.
cleaned activemq@mq1 clear
----
verify mysql@mysql1
tell: activemq@mq1 is cleaning

answer mysql@mysql1 ready
spawned activemq@mq1 412
own activemq@mq1 refused
----
spawn activemq@mq1 (start 1)
tell: activemq@mq1 is starting
ask activemq@mq1 fast
event: activemq@mq1 started: pid 412, after mysql@mysql1 (fine)
verify activemq@mq1
tell: activemq@mq1 is starting

own activemq@mq1 ready
show activemq@mq1
----
event: activemq@mq1 ready: ready (fine)
tell: activemq@mq1 is ready
ask activemq@mq1 every 5s
activemq@mq1 is ready: ready (fine)
  needs mysql any: met, 1 of 1

