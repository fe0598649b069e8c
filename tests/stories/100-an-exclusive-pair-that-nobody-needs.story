# Two brokers of one name both take the lease, and nobody needs them: each looks at the other while it serves, and it is
# their own alarm.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2" }
[services]
broker = { on = ["n1", "n2"] }
end
unit broker
exclusive = true
[run]
command = ["/usr/bin/broker"]
[ready]
probe = { kind = "activemq" }
end
on n1

searched all nothing
cleaned broker@n1 clear
spawned broker@n1 5
own broker@n1 ready
answer broker@n2 refused
answer broker@n2 ready
show broker@n1
----
clean broker@n1
tell: broker@n1 is cleaning
spawn broker@n1 (start 1)
tell: broker@n1 is starting
ask broker@n2 fast
ask broker@n1 fast
event: broker@n1 started: pid 5
verify broker@n1
event: broker@n1 ready: ready (fine)
tell: broker@n1 is ready
ask broker@n2 every 5s
ask broker@n1 every 5s
verify broker@n1
broker@n1 is ready: ready (fine)

# It was asked before the other began to serve, so it is asked again.
own broker@n1 ready
show broker@n1
----
event: broker@n1 rivals: broker@n1 and broker@n2 serve at once, and only one may
broker@n1 is ready: ready (fine)

own broker@n1 declined
show broker@n1
----
event: broker@n1 rivals-gone: no other serves beside it any more
tell: broker@n1 is ready
broker@n1 is ready: it says no
