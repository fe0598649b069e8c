# An exclusive service: one serves, the other waits for its turn with its port closed. That is standby, not failed.

cluster
[cluster]
name = "shop"
[nodes]
mq = { mq1 = "10.0.0.31", mq2 = "10.0.0.32" }
[services]
activemq = { on = "mq" }
end
unit activemq
exclusive = true
[run]
command = ["/usr/bin/activemq"]
[ready]
probe = { kind = "tcp", port = 61617 }
end
on mq2

searched all nothing
cleaned activemq@mq2 clear
spawned activemq@mq2 512
own activemq@mq2 refused
----
clean activemq@mq2
tell: activemq@mq2 is cleaning
spawn activemq@mq2 (start 1)
tell: activemq@mq2 is starting
ask activemq@mq1 fast
ask activemq@mq2 fast
event: activemq@mq2 started: pid 512
verify activemq@mq2
tell: activemq@mq2 is starting

answer activemq@mq1 ready
show activemq@mq2
----
event: activemq@mq2 standby: activemq@mq1 serves; this one is alive and waits for its turn
tell: activemq@mq2 is standby
ask activemq@mq1 every 500ms
ask activemq@mq2 every 500ms
activemq@mq2 is standby: activemq@mq1 serves; this one is alive and waits for its turn

# The one that served is gone; this one takes over.
answer activemq@mq1 refused
after 500ms
answer activemq@mq1 refused
after 500ms
answer activemq@mq1 refused
----
[496ms later]
verify activemq@mq2
[499ms later]
verify activemq@mq1
[499ms later]
verify activemq@mq1
verify activemq@mq2
tell: activemq@mq2 is unready

own activemq@mq2 ready
show activemq@mq2
----
event: activemq@mq2 ready: ready (fine)
tell: activemq@mq2 is ready
ask activemq@mq1 every 5s
ask activemq@mq2 every 5s
activemq@mq2 is ready: ready (fine)

# A broker that hangs while another serves is not standing by.
own activemq@mq2 silent
after 500ms
own activemq@mq2 silent
after 500ms
own activemq@mq2 silent
answer activemq@mq1 ready
show activemq@mq2
----
tell: activemq@mq2 is ready
[499ms later]
verify activemq@mq2
[499ms later]
verify activemq@mq2
event: activemq@mq2 unready: no answer within 2 s
tell: activemq@mq2 is unready
ask activemq@mq1 every 500ms
ask activemq@mq2 every 500ms
activemq@mq2 is unready: no answer within 2 s

