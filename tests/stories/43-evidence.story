# What justified a start is kept with it: for each need who counted, what was asked, and when it was answered.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = "n2" }
migrate = { on = "n3" }
[services.app]
on = "n1"
needs.db = "any"
needs.migrate = { count = "any", proof = "agent" }
end
unit db
[run]
command = ["/usr/bin/db"]
[ready]
probe = { kind = "tcp", port = 9000 }
end
unit migrate
[run]
command = ["/usr/bin/migrate"]
kind = "oneshot"
end
unit app
[run]
command = ["/usr/bin/app"]
[ready]
probe = { kind = "tcp", port = 9001 }
end
on n1

searched all nothing
answer db@n2 ready server-a
peer migrate@n3 completed
cleaned app@n1 clear
answer db@n2 ready server-a
spawned app@n1 5
data
----
tell: app@n1 is waiting
ask db@n2 fast
tell: app@n1 is waiting
ask db@n2 every 5s
clean app@n1
tell: app@n1 is cleaning
verify db@n2
tell: app@n1 is cleaning
spawn app@n1 (start 1)
tell: app@n1 is starting
ask app@n1 fast
event: app@n1 started: pid 5, after db@n2 (fine), migrate@n3 (its agent says completed)
verify app@n1
data: {"evidence":[{"answer":{"detail":"fine","identity":"server-a"},"asked":"10.0.0.2:9000","begun":1000005000000,"ended":1000005000000,"need":"db","to":"db@n2"},{"answer":{"detail":"its agent says completed"},"asked":"its agent","begun":1000005000000,"ended":1000005000000,"need":"migrate","to":"migrate@n3"}],"incarnation":1,"pid":5}

own app@n1 ready
data
view app@n1
memory app@n1
----
event: app@n1 ready: ready (fine)
tell: app@n1 is ready
ask app@n1 every 5s
data: {"after_ms":2}
{"desired":"up","failures":0,"instance":"app@n1","own":{"answer":"ready","detail":"fine"},"pid":5,"reason":"ready (fine)","since_ms":2,"starts":1,"state":"ready"}
  {"count":"any","met":1,"name":"db","ok":true,"since_ms":8,"waived":false,"wanted":1}
    {"address":"10.0.0.2:9000","met":true,"to":"db@n2","verdict":{"answer":"ready","detail":"fine","identity":"server-a"},"verdict_since_ms":8}
  {"count":"any","met":1,"name":"migrate","ok":true,"since_ms":7,"waived":false,"wanted":1}
    {"met":true,"peer":{"connected":true,"heard_ms":7,"reason":"","state":"completed"},"to":"migrate@n3"}
{"incarnation":1,"main":true,"was_ready":true,"stopping":false,"completed":false,"spawned":1000006000000,"starts":1,"failures":0,"flags":[]}
