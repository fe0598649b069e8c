# It serves, fails its own probe, and recovers: ready again, without a second start.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
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
after 10s
own db@n1 refused
after 500ms
own db@n1 refused
after 500ms
own db@n1 refused
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

after 500ms
own db@n1 ready
view db@n1
----
event: db@n1 ready: ready (fine)
tell: db@n1 is ready
ask db@n1 every 5s
{"desired":"up","failures":0,"instance":"db@n1","own":{"answer":"ready","detail":"fine"},"pid":5,"reason":"ready (fine)","since_ms":1,"starts":1,"state":"ready"}
