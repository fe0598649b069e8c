# Fewer bad answers in a row than `lost_after` change nothing. The first time that it was unready one good answer is
# enough; after that good answers have to come for a while, each time for longer.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2" }
[services]
db = { on = "n1" }
end
unit db
[run]
command = ["/usr/bin/db"]
[ready]
probe = { kind = "tcp", port = 9000 }
lost_after = 2
end
on n1

searched all nothing
cleaned db@n1 clear
spawned db@n1 5
own db@n1 ready
own db@n1 refused
own db@n1 ready
own db@n1 refused
own db@n1 ready
----
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 1)
tell: db@n1 is starting
ask db@n1 fast
event: db@n1 started: pid 5
verify db@n1
event: db@n1 ready: ready (fine)
tell: db@n1 is ready
ask db@n1 every 5s
tell: db@n1 is ready
tell: db@n1 is ready
tell: db@n1 is ready
tell: db@n1 is ready

own db@n1 refused
own db@n1 refused
own db@n1 ready
own db@n1 refused
own db@n1 refused
own db@n1 ready
show db@n1
wake
after 500ms
own db@n1 refused
own db@n1 ready
after 900ms
show db@n1
after 100ms
show db@n1
----
tell: db@n1 is ready
event: db@n1 unready: connection refused
tell: db@n1 is unready
ask db@n1 every 500ms
event: db@n1 ready: ready (fine)
tell: db@n1 is ready
ask db@n1 every 5s
tell: db@n1 is ready
event: db@n1 unready: connection refused
tell: db@n1 is unready
ask db@n1 every 500ms
tell: db@n1 is unready
db@n1 is unready: ready (fine); it was unready 2 times, so that has to last for 1 s
wakes in 998ms
tell: db@n1 is unready
tell: db@n1 is unready
db@n1 is unready: ready (fine); it was unready 2 times, so that has to last for 1 s
[97ms later]
event: db@n1 ready: ready (fine)
tell: db@n1 is ready
ask db@n1 every 5s
db@n1 is ready: ready (fine)

# The third time: two seconds.
own db@n1 refused
own db@n1 refused
own db@n1 ready
after 1900ms
show db@n1
after 200ms
show db@n1
----
tell: db@n1 is ready
event: db@n1 unready: connection refused
tell: db@n1 is unready
ask db@n1 every 500ms
tell: db@n1 is unready
db@n1 is unready: ready (fine); it was unready 3 times, so that has to last for 2 s
[97ms later]
event: db@n1 ready: ready (fine)
tell: db@n1 is ready
ask db@n1 every 5s
db@n1 is ready: ready (fine)

# It has been ready for long: the count begins anew.
after 31s
own db@n1 refused
own db@n1 refused
own db@n1 ready
show db@n1
----
tell: db@n1 is ready
event: db@n1 unready: connection refused
tell: db@n1 is unready
ask db@n1 every 500ms
event: db@n1 ready: ready (fine)
tell: db@n1 is ready
ask db@n1 every 5s
db@n1 is ready: ready (fine)
