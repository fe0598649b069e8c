# It has given up. When a need that was lost is met again, it is tried anew, with its failures forgotten.

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
limit = 1
end
on n1

searched all nothing
answer db@n2 ready
cleaned app@n1 clear
answer db@n2 ready
spawned app@n1 5
exited app@n1 code 1
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
event: app@n1 exited: exit code 1
event: app@n1 failed: gave up after 1 failures: exit code 1
verify db@n2
tell: app@n1 is failed
ask app@n1 no more

# Long after: the loss is no excuse any more, and finding the need again is a new chance.
after 1m
answer db@n2 refused
after 500ms
view app@n1
answer db@n2 ready
view app@n1
----
[499ms later]
verify db@n2
{"desired":"up","failures":1,"instance":"app@n1","reason":"gave up after 1 failures: exit code 1","since_ms":60504,"starts":1,"state":"failed"}
  {"count":"any","met":0,"name":"db","ok":false,"since_ms":502,"waived":false,"wanted":1}
    {"address":"10.0.0.2:9000","met":false,"to":"db@n2","verdict":{"answer":"not-ready","kind":"refused","reason":"connection refused"},"verdict_since_ms":502}
event: app@n1 tried-anew: its need db is met again: tried anew
clean app@n1
tell: app@n1 is cleaning
{"desired":"up","failures":0,"instance":"app@n1","reason":"judges what an earlier run left behind","since_ms":1,"starts":1,"state":"cleaning"}
  {"count":"any","met":1,"name":"db","ok":true,"since_ms":1,"waived":false,"wanted":1}
    {"address":"10.0.0.2:9000","met":true,"to":"db@n2","verdict":{"answer":"ready","detail":"fine"},"verdict_since_ms":1}
