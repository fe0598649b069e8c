# The judge finds a living process that is this instance, started by somebody else: it is kept, and no second one is
# started. Words about a process of before are not about this one.

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
cleaned db@n1 alive 77
adopted db@n1 77
own db@n1 ready
view db@n1
memory db@n1
----
clean db@n1
tell: db@n1 is cleaning
verify db@n1
adopt db@n1 (pid 77)
tell: db@n1 is starting
ask db@n1 fast
event: db@n1 adopted: pid 77, started by somebody else, is this instance: adopted
event: db@n1 ready: ready (fine)
tell: db@n1 is ready
ask db@n1 every 5s
{"desired":"up","failures":0,"flags":["started by somebody else, adopted"],"instance":"db@n1","own":{"answer":"ready","detail":"fine"},"pid":77,"reason":"ready (fine)","since_ms":1,"starts":0,"state":"ready"}
{"incarnation":1,"main":true,"was_ready":true,"stopping":false,"completed":false,"spawned":1000002000000,"starts":0,"failures":0,"flags":["started by somebody else, adopted"]}

exited db@n1 code 0
after 1s
cleaned db@n1 alive 78
memory db@n1
----
event: db@n1 exited: exit code 0
event: db@n1 backoff: exit code 0; next start in 1.0 s
tell: db@n1 is backoff
ask db@n1 no more
[999ms later]
clean db@n1
tell: db@n1 is cleaning
verify db@n1
adopt db@n1 (pid 78)
tell: db@n1 is starting
ask db@n1 fast
{"incarnation":2,"main":true,"was_ready":false,"stopping":false,"completed":false,"spawned":1001009000000,"starts":0,"failures":1,"flags":["started by somebody else, adopted"]}
