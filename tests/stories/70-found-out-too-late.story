# A loss that is found out within three seconds of the exit takes the failure back; later it does not.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = "n2" }
app = { on = "n1", needs.db = "any" }
end
unit db
[run]
command = ["/usr/bin/db"]
[ready]
probe = { kind = "tcp", port = 9000 }
end
unit app
[run]
command = ["/usr/bin/app"]
[ready]
probe = { kind = "tcp", port = 9001 }
[restart]
delay = "10s"
end
on n1

searched all nothing
answer db@n2 ready
cleaned app@n1 clear
answer db@n2 ready
spawned app@n1 5
own app@n1 ready
----
tell: app@n1 is waiting
ask db@n2 fast
clean app@n1
tell: app@n1 is cleaning
ask db@n2 every 5s
verify db@n2
tell: app@n1 is cleaning
spawn app@n1 (start 1)
tell: app@n1 is starting
ask app@n1 fast
event: app@n1 started: pid 5, after db@n2 (fine)
verify app@n1
event: app@n1 ready: ready (fine)
tell: app@n1 is ready
ask app@n1 every 5s

exited app@n1 code 1
after 2998ms
answer db@n2 refused
show app@n1
----
event: app@n1 exited: exit code 1
event: app@n1 backoff: exit code 1; next start in 10.0 s
verify db@n2
tell: app@n1 is backoff
ask app@n1 no more
event: app@n1 excused: a need had been lost when it exited; the failure is not counted
tell: app@n1 is waiting
ask db@n2 fast
app@n1 is waiting: waits for db (any, 0 of 1)
  needs db any: unmet, 0 of 1

answer db@n2 ready
cleaned app@n1 clear
answer db@n2 ready
spawned app@n1 6
exited app@n1 code 1
after 2999ms
answer db@n2 refused
view app@n1
----
clean app@n1
tell: app@n1 is cleaning
ask db@n2 every 5s
verify db@n2
tell: app@n1 is cleaning
spawn app@n1 (start 2)
tell: app@n1 is starting
ask app@n1 fast
event: app@n1 started: pid 6, after db@n2 (fine)
verify app@n1
event: app@n1 exited: exit code 1
event: app@n1 backoff: exit code 1; next start in 10.0 s
verify db@n2
tell: app@n1 is backoff
ask app@n1 no more
{"desired":"up","failures":1,"instance":"app@n1","next_ms":6998,"reason":"exit code 1","since_ms":3002,"starts":2,"state":"backoff"}
  {"count":"any","met":0,"name":"db","ok":false,"since_ms":1,"waived":false,"wanted":1}
    {"address":"10.0.0.2:9000","met":false,"to":"db@n2","verdict":{"answer":"not-ready","kind":"refused","reason":"connection refused"},"verdict_since_ms":1}
