# The middle of a chain: it lets go because what it needs is stopped, and tells those that lean on it what began it.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = "n2" }
app = { on = "n1", needs.db = "any" }
web = { on = "n3", needs.app = "any" }
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
unit web
[run]
command = ["/usr/bin/web"]
[ready]
probe = { kind = "tcp", port = 80 }
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

peer web@n3 ready
peer db@n2 stopping veto 5
view app@n1
----
event: app@n1 leaving: its need db would be lost: db@n2 is being stopped (held by alice)
tell: app@n1 is stopping, vetoed
{"desired":"up","failures":0,"instance":"app@n1","own":{"answer":"ready","detail":"fine"},"pid":5,"reason":"its need db would be lost: db@n2 is being stopped (held by alice); waits for web@n3 (ready)","since_ms":1,"starts":1,"state":"stopping","withdrawn":"held by alice"}
  {"count":"any","met":0,"name":"db","ok":true,"since_ms":1,"waived":false,"wanted":1}
    {"address":"10.0.0.2:9000","met":false,"peer":{"connected":true,"heard_ms":1,"reason":"","state":"stopping","veto":"held by alice"},"to":"db@n2","verdict":{"answer":"ready","detail":"fine"},"verdict_since_ms":7}

peer web@n3 waiting released app@n1
exited app@n1 code 0
swept app@n1
----
event: app@n1 stopping: its need db would be lost: db@n2 is being stopped (held by alice)
signal 15 to app@n1
tell: app@n1 is stopping, vetoed
ask app@n1 no more
event: app@n1 exited: exit code 0
sweep app@n1
tell: app@n1 is stopping, vetoed
event: app@n1 stopped: nothing of it runs
tell: app@n1 is waiting, has released db@n2
ask db@n2 fast
