# on-loss = "restart": a loss that was shorter than the grace restarts nothing.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = "n2" }
[services.app]
on = "n1"
needs.db = { count = "any", on-loss = "restart", grace = "10s" }
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

answer db@n2 refused
after 500ms
answer db@n2 refused
after 500ms
answer db@n2 refused
after 5s
view app@n1
answer db@n2 ready
view app@n1
----
[499ms later]
verify db@n2
[499ms later]
verify db@n2
event: app@n1 need-lost: lost its need db: db (any, 0 of 1)
{"desired":"up","failures":0,"instance":"app@n1","own":{"answer":"ready","detail":"fine"},"pid":5,"reason":"ready (fine)","since_ms":6007,"starts":1,"state":"ready"}
  {"count":"any","met":0,"name":"db","ok":false,"since_ms":5002,"waived":false,"wanted":1}
    {"address":"10.0.0.2:9000","met":false,"to":"db@n2","verdict":{"answer":"not-ready","kind":"refused","reason":"connection refused"},"verdict_since_ms":6006}
event: app@n1 need-found: has its need db again
{"desired":"up","failures":0,"instance":"app@n1","own":{"answer":"ready","detail":"fine"},"pid":5,"reason":"ready (fine)","since_ms":6009,"starts":1,"state":"ready"}
  {"count":"any","met":1,"name":"db","ok":true,"since_ms":1,"waived":false,"wanted":1}
    {"address":"10.0.0.2:9000","met":true,"to":"db@n2","verdict":{"answer":"ready","detail":"fine"},"verdict_since_ms":1}
