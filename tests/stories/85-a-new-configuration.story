# A new configuration under running services. What both files know runs on, by the unit that it was started with, and
# what was lost, waited for or ordered stays so; what is new is looked for; what is known no more is named. Nodes and
# needs are found again by their names, wherever the new file has them.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = "n2" }
cache = { on = "n2" }
init = { on = "n2" }
old = { on = "n1" }
gone = { on = "n1" }
web = { on = ["n2", "n3"], needs.app = "any" }
[services.app]
on = "n1"
needs.db = "any"
needs.cache = "any"
needs.init = { count = "any", proof = "agent" }
end
unit db
[run]
command = ["/usr/bin/db"]
[ready]
probe = { kind = "tcp", port = 9000 }
end
unit cache
[run]
command = ["/usr/bin/cache"]
[ready]
probe = { kind = "tcp", port = 9002 }
end
unit init
[run]
kind = "oneshot"
command = ["/usr/bin/init"]
end
unit old
[run]
command = ["/usr/bin/old"]
[ready]
probe = { kind = "tcp", port = 9003 }
end
unit gone
[run]
command = ["/usr/bin/gone"]
[ready]
probe = { kind = "tcp", port = 9006 }
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
probe = { kind = "tcp", port = 9004 }
end
on n1

searched old@n1 running 4 ready
searched gone@n1 nothing
searched app@n1 running 5 ready
own old@n1 ready
own app@n1 ready
answer db@n2 ready
answer cache@n2 ready
peer db@n2 ready
peer init@n2 completed
peer web@n2 ready
peer web@n3 ready
answer cache@n2 refused
after 500ms
answer cache@n2 refused
after 500ms
answer cache@n2 refused
after 5s
stop app@n1 without n3
view app@n1
----
event: old@n1 found-running: pid 4 still runs: kept
verify old@n1
tell: old@n1 is unready
tell: gone@n1 is waiting
tell: app@n1 is waiting
ask old@n1 every 500ms
ask db@n2 fast
ask cache@n2 fast
clean gone@n1
tell: gone@n1 is cleaning
event: app@n1 found-running: pid 5 still runs: kept
verify app@n1
tell: app@n1 is unready
ask db@n2 every 5s
ask cache@n2 every 5s
ask app@n1 every 500ms
event: old@n1 ready: ready (fine)
tell: old@n1 is ready
ask old@n1 every 5s
event: app@n1 ready: ready (fine)
tell: app@n1 is ready
ask app@n1 every 5s
[499ms later]
verify cache@n2
[499ms later]
verify cache@n2
event: app@n1 need-lost: lost its need cache: cache (any, 0 of 1)
event: app@n1 held: by alice
save: app@n1 is held by alice
event: app@n1 leaving: held by alice
tell: app@n1 is stopping, vetoed
reply: app@n1 stopping: held by alice; waits for web@n2 (ready)
{"desired":"held","failures":0,"held_at":0,"held_because":"","held_by":"alice","instance":"app@n1","own":{"answer":"ready","detail":"fine"},"pid":5,"reason":"held by alice; waits for web@n2 (ready)","since_ms":1,"starts":1,"state":"stopping","withdrawn":"app@n1 is held by alice"}
  {"count":"any","met":1,"name":"db","ok":true,"since_ms":6013,"waived":false,"wanted":1}
    {"address":"10.0.0.2:9000","met":true,"peer":{"connected":true,"heard_ms":6011,"reason":"","state":"ready"},"to":"db@n2","verdict":{"answer":"ready","detail":"fine"},"verdict_since_ms":6013}
  {"count":"any","met":0,"name":"cache","ok":false,"since_ms":5003,"waived":false,"wanted":1}
    {"address":"10.0.0.2:9002","met":false,"to":"cache@n2","verdict":{"answer":"not-ready","kind":"refused","reason":"connection refused"},"verdict_since_ms":6007}
  {"count":"any","met":1,"name":"init","ok":true,"since_ms":6010,"waived":false,"wanted":1}
    {"met":true,"peer":{"connected":true,"heard_ms":6010,"reason":"","state":"completed"},"to":"init@n2"}

# The same nodes and needs in another order; old and gone are taken out, new is put in, and app has another command.
cluster
[cluster]
name = "shop"
[nodes]
all = { n0 = "10.0.0.9", n3 = "10.0.0.3", n2 = "10.0.0.2", n1 = "10.0.0.1" }
[services]
new = { on = "n1" }
init = { on = "n2" }
cache = { on = "n2" }
db = { on = "n2" }
web = { on = ["n3", "n2"], needs.app = "any" }
[services.app]
on = "n1"
needs.init = { count = "any", proof = "agent" }
needs.cache = "any"
needs.db = "any"
needs.new = "any"
end
unit app
[run]
command = ["/usr/bin/app", "--new"]
[ready]
probe = { kind = "tcp", port = 9001 }
[stop]
signal = "INT"
end
unit new
[run]
command = ["/usr/bin/new"]
[ready]
probe = { kind = "tcp", port = 9005 }
end
reload
heard db@n2
heard web@n3
command app@n1
view app@n1
----
reloaded: new ["new@n1"], orphans ["old@n1"]
of db@n2 was heard: ready, 6013 ms ago
of web@n3 was heard: ready, 6011 ms ago
app@n1 is run by ["/usr/bin/app"]
{"desired":"held","failures":0,"held_at":0,"held_because":"","held_by":"alice","instance":"app@n1","pid":5,"reason":"held by alice; waits for web@n2 (ready)","since_ms":6,"starts":1,"state":"stopping","withdrawn":"app@n1 is held by alice"}
  {"count":"any","met":0,"name":"init","ok":false,"since_ms":4,"waived":false,"wanted":1}
    {"met":false,"peer":{"connected":false,"heard_ms":6015,"reason":"","state":"completed"},"to":"init@n2"}
  {"count":"any","met":0,"name":"cache","ok":false,"since_ms":5008,"waived":false,"wanted":1}
    {"address":"10.0.0.2:9002","met":false,"to":"cache@n2"}
  {"count":"any","met":0,"name":"db","ok":false,"since_ms":4,"waived":false,"wanted":1}
    {"address":"10.0.0.2:9000","met":false,"peer":{"connected":false,"heard_ms":6016,"reason":"","state":"ready"},"to":"db@n2"}
  {"count":"any","met":0,"name":"new","ok":false,"since_ms":4,"waived":false,"wanted":1}
    {"address":"10.0.0.1:9005","met":false,"to":"new@n1"}

# An answer to a question that was asked before is another one's: the questions are numbered anew. The agents have to
# be heard again before their word counts.
late answer db@n2 ready
slow 6ms answer cache@n2 ready
searched new@n1 nothing
show app@n1
----
tell: new@n1 is waiting
tell: app@n1 is stopping, vetoed
ask new@n1 every 5s
ask cache@n2 every 5s
ask db@n2 every 5s
ask app@n1 every 5s
event: app@n1 need-found: has its need cache again
clean new@n1
tell: new@n1 is cleaning
app@n1 is stopping (held): held by alice; waits for web@n2 (its agent does not answer; last heard ready)
  needs init any: unmet, 0 of 1
  needs cache any: met, 1 of 1
  needs db any: unmet, 0 of 1
  needs new any: unmet, 0 of 1

answer db@n2 ready
peer init@n2 completed
show app@n1
peer web@n2 waiting released app@n1
exited app@n1 code 0
swept app@n1
command app@n1
----
app@n1 is stopping (held): held by alice; waits for web@n2 (its agent does not answer; last heard ready)
  needs init any: met, 1 of 1
  needs cache any: met, 1 of 1
  needs db any: met, 1 of 1
  needs new any: unmet, 0 of 1
event: app@n1 stopping: held by alice
signal 15 to app@n1
tell: app@n1 is stopping, vetoed
ask app@n1 no more
event: app@n1 exited: exit code 0
sweep app@n1
tell: app@n1 is stopping, vetoed
event: app@n1 stopped: nothing of it runs
tell: app@n1 is stopped
ask new@n1 no more
ask cache@n2 no more
ask db@n2 no more
app@n1 is run by ["/usr/bin/app", "--new"]
