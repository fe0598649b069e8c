# An exclusive service: this one has lost its lease to the other, and says no. It does not fail, it stands by.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
mq = { on = ["n1", "n2"] }
end
unit mq
exclusive = true
[run]
command = ["/usr/bin/mq"]
[ready]
probe = { kind = "tcp", port = 61616 }
end
on n1

searched all nothing
cleaned mq@n1 clear
spawned mq@n1 5
own mq@n1 ready
answer mq@n2 refused
own mq@n1 declined
after 500ms
own mq@n1 declined
after 500ms
own mq@n1 declined
----
clean mq@n1
tell: mq@n1 is cleaning
spawn mq@n1 (start 1)
tell: mq@n1 is starting
ask mq@n2 fast
ask mq@n1 fast
event: mq@n1 started: pid 5
verify mq@n1
event: mq@n1 ready: ready (fine)
tell: mq@n1 is ready
ask mq@n2 every 5s
ask mq@n1 every 5s
tell: mq@n1 is ready
[498ms later]
verify mq@n2
[499ms later]
verify mq@n1
[499ms later]
verify mq@n1
event: mq@n1 unready: it says no
tell: mq@n1 is unready
ask mq@n2 every 500ms
ask mq@n1 every 500ms

answer mq@n2 ready
show mq@n1
----
event: mq@n1 standby: mq@n2 serves; this one is alive and waits for its turn
tell: mq@n1 is standby
mq@n1 is standby: mq@n2 serves; this one is alive and waits for its turn

# The other has gone, and this one serves.
own mq@n1 ready
show mq@n1
----
event: mq@n1 ready: ready (fine)
tell: mq@n1 is ready
verify mq@n2
ask mq@n2 every 5s
ask mq@n1 every 5s
mq@n1 is ready: ready (fine)
