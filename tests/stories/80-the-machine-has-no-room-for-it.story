# The machine has no room for a start: no descriptor, no process, no room for the journal. That is no fault of the
# instance: it is tried again, later and later, for ever, and what it counts as failures stays as it was.

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
limit = 2
max = "4s"
end
on n1

searched all nothing
cleaned db@n1 clear
no-room db@n1 the journal in /run/clusterd cannot be written
after 1s
cleaned db@n1 clear
no-room db@n1 the journal in /run/clusterd cannot be written
after 2s
cleaned db@n1 clear
no-room db@n1 the journal in /run/clusterd cannot be written
after 4s
cleaned db@n1 clear
no-room db@n1 the journal in /run/clusterd cannot be written
view db@n1
----
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 1)
tell: db@n1 is starting
ask db@n1 fast
event: db@n1 backoff: cannot be started: the journal in /run/clusterd cannot be written; no fault of its own, so it is not counted; next start in 1.0 s
tell: db@n1 is backoff
ask db@n1 no more
[999ms later]
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 2)
tell: db@n1 is starting
ask db@n1 fast
event: db@n1 backoff: cannot be started: the journal in /run/clusterd cannot be written; no fault of its own, so it is not counted; next start in 2.0 s
tell: db@n1 is backoff
ask db@n1 no more
[1.999s later]
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 3)
tell: db@n1 is starting
ask db@n1 fast
event: db@n1 backoff: cannot be started: the journal in /run/clusterd cannot be written; no fault of its own, so it is not counted; next start in 4.0 s
tell: db@n1 is backoff
ask db@n1 no more
[3.999s later]
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 4)
tell: db@n1 is starting
ask db@n1 fast
event: db@n1 backoff: cannot be started: the journal in /run/clusterd cannot be written; no fault of its own, so it is not counted; next start in 4.0 s
tell: db@n1 is backoff
ask db@n1 no more
{"desired":"up","failures":0,"instance":"db@n1","next_ms":3999,"reason":"cannot be started: the journal in /run/clusterd cannot be written","since_ms":1,"starts":4,"state":"backoff"}

# There is room again.
after 4s
cleaned db@n1 clear
spawned db@n1 5
own db@n1 ready
view db@n1
----
[3.998s later]
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 5)
tell: db@n1 is starting
ask db@n1 fast
event: db@n1 started: pid 5
verify db@n1
event: db@n1 ready: ready (fine)
tell: db@n1 is ready
ask db@n1 every 5s
{"desired":"up","failures":0,"instance":"db@n1","own":{"answer":"ready","detail":"fine"},"pid":5,"reason":"ready (fine)","since_ms":1,"starts":5,"state":"ready"}

# An operator's hold ends the trying.
exited db@n1 code 1
after 1s
cleaned db@n1 clear
no-room db@n1 cannot fork
stop db@n1
after 1m
----
event: db@n1 exited: exit code 1
event: db@n1 backoff: exit code 1; next start in 1.0 s
tell: db@n1 is backoff
ask db@n1 no more
[999ms later]
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 6)
tell: db@n1 is starting
ask db@n1 fast
event: db@n1 backoff: cannot be started: cannot fork; no fault of its own, so it is not counted; next start in 1.0 s
tell: db@n1 is backoff
ask db@n1 no more
event: db@n1 held: by alice
save: db@n1 is held by alice
tell: db@n1 is stopped
reply: db@n1 stopped: held by alice
