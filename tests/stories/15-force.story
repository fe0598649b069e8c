# --force starts in spite of unmet needs, and the event says who and what was not met.

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
start activemq@mq1
----
tell: activemq@mq1 is waiting
ask mysql@mysql1 fast
ask mysql@mysql2 fast
event: activemq@mq1 released: by alice
reply: activemq@mq1 waiting: waits for mysql (any, 0 of 1)

start activemq@mq1 force
cleaned activemq@mq1 clear
----
event: activemq@mq1 released: by alice (forced)
clean activemq@mq1
tell: activemq@mq1 is cleaning
reply: activemq@mq1 cleaning: judges what an earlier run left behind
event: activemq@mq1 forced: by alice, although mysql (any, 0 of 1)
spawn activemq@mq1 (start 1)
tell: activemq@mq1 is starting
ask mysql@mysql1 every 5s
ask mysql@mysql2 every 5s
ask activemq@mq1 fast

