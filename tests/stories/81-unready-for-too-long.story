# It stays unready. Only where its unit asks for it, that ends the process, and counts as a failure.

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
[restart]
unready_for = "20s"
end
on n1

searched all nothing
cleaned db@n1 clear
spawned db@n1 5
own db@n1 ready
after 40s
own db@n1 refused
after 500ms
own db@n1 refused
after 500ms
own db@n1 refused
wake
after 19s
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
[499ms later]
verify db@n1
[499ms later]
verify db@n1
event: db@n1 unready: connection refused
tell: db@n1 is unready
ask db@n1 every 500ms
wakes in 19.999s

# Work that goes on is not cut off.
own db@n1 loading 40
after 5s
show db@n1
----
tell: db@n1 is unready
db@n1 is unready: loading, 40 %

own db@n1 refused
exited db@n1 signal 15
swept db@n1
show db@n1
----
event: db@n1 unready-too-long: unready for 24 s: connection refused
event: db@n1 stopping: unready for 24 s: connection refused
signal 15 to db@n1
tell: db@n1 is stopping, vetoed and waits for nobody
ask db@n1 no more
event: db@n1 exited: killed by SIGTERM
sweep db@n1
tell: db@n1 is stopping, vetoed and waits for nobody
event: db@n1 stopped: nothing of it runs
event: db@n1 backoff: unready for 24 s: connection refused; next start in 1.0 s
tell: db@n1 is backoff
db@n1 is backoff: unready for 24 s: connection refused
