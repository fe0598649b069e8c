# It came near to a start after twenty seconds, and waits on: at thirty the wait is over.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = "n2" }
[services.app]
on = "n1"
needs.db = { count = "any", wait = "30s", then = "fail" }
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
after 20s
answer db@n2 ready
cleaned app@n1 clear
answer db@n2 refused
view app@n1
after 10s
view app@n1
wake
----
tell: app@n1 is waiting
ask db@n2 fast
clean app@n1
tell: app@n1 is cleaning
ask db@n2 every 5s
verify db@n2
tell: app@n1 is cleaning
tell: app@n1 is waiting
ask db@n2 fast
{"desired":"up","failures":0,"instance":"app@n1","reason":"waits for db (any, 0 of 1)","since_ms":20005,"starts":0,"state":"waiting"}
  {"count":"any","met":0,"name":"db","ok":false,"since_ms":1,"waived":false,"wanted":1}
    {"address":"10.0.0.2:9000","met":false,"to":"db@n2","verdict":{"answer":"not-ready","kind":"refused","reason":"connection refused"},"verdict_since_ms":1}
[498ms later]
verify db@n2
[9.994s later]
event: app@n1 failed: waited 30 s for db
tell: app@n1 is failed
ask db@n2 every 5s
{"desired":"up","failures":0,"instance":"app@n1","reason":"waited 30 s for db","since_ms":7,"starts":0,"state":"failed"}
  {"count":"any","met":0,"name":"db","ok":false,"since_ms":10003,"waived":false,"wanted":1}
    {"address":"10.0.0.2:9000","met":false,"to":"db@n2","verdict":{"answer":"not-ready","kind":"refused","reason":"connection refused"},"verdict_since_ms":10003}
wakes no more

# It is met after all: a new chance.
answer db@n2 ready
----
event: app@n1 tried-anew: its need db is met again: tried anew
clean app@n1
tell: app@n1 is cleaning
