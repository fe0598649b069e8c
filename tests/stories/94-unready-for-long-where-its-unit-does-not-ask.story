# Its unit does not ask for it: it is left as it is, however long it is unready.

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
end
on n1

searched all nothing
cleaned db@n1 clear
spawned db@n1 5
own db@n1 ready
own db@n1 refused
own db@n1 refused
own db@n1 refused
after 1440m
show db@n1
wake
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
event: db@n1 unready: connection refused
tell: db@n1 is unready
ask db@n1 every 500ms
db@n1 is unready: connection refused
wakes no more
