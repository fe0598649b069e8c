# Failures in a row: a run that was stable resets them, a short one does not.

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
[restart]
delay = "1s"
stable = "30s"
end
on n1

searched all nothing
cleaned db@n1 clear
spawned db@n1 5
exited db@n1 code 1
after 1s
cleaned db@n1 clear
spawned db@n1 6
own db@n1 ready
after 29s
exited db@n1 code 1
view db@n1
----
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 1)
tell: db@n1 is starting
ask db@n1 fast
event: db@n1 started: pid 5
verify db@n1
event: db@n1 exited: exit code 1
event: db@n1 backoff: exit code 1; next start in 1.0 s
tell: db@n1 is backoff
ask db@n1 no more
[999ms later]
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 2)
tell: db@n1 is starting
ask db@n1 fast
event: db@n1 started: pid 6
verify db@n1
event: db@n1 ready: ready (fine)
tell: db@n1 is ready
ask db@n1 every 5s
event: db@n1 exited: exit code 1
event: db@n1 backoff: exit code 1; next start in 2.0 s
tell: db@n1 is backoff
ask db@n1 no more
{"desired":"up","failures":2,"instance":"db@n1","next_ms":1999,"reason":"exit code 1","since_ms":1,"starts":2,"state":"backoff"}

after 2s
cleaned db@n1 clear
spawned db@n1 7
own db@n1 ready
after 30s
exited db@n1 code 1
view db@n1
----
[1.998s later]
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 3)
tell: db@n1 is starting
ask db@n1 fast
event: db@n1 started: pid 7
verify db@n1
event: db@n1 ready: ready (fine)
tell: db@n1 is ready
ask db@n1 every 5s
event: db@n1 exited: exit code 1
event: db@n1 backoff: exit code 1; next start in 1.0 s
tell: db@n1 is backoff
ask db@n1 no more
{"desired":"up","failures":1,"instance":"db@n1","next_ms":999,"reason":"exit code 1","since_ms":1,"starts":3,"state":"backoff"}
