# Two probes may overlap. The one begun later knows better; of two begun at one moment, the one that ended later.
# Answers to a question, and words on an instance, that there are not are let pass.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2" }
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
end
on n1

searched all nothing
answer db@n2 refused
slow 1ms answer db@n2 loading 40
view app@n1
slow 4ms answer db@n2 ready
view app@n1
----
tell: app@n1 is waiting
ask db@n2 fast
{"desired":"up","failures":0,"instance":"app@n1","reason":"waits for db (any, 0 of 1)","since_ms":10004,"starts":0,"state":"waiting"}
  {"count":"any","met":0,"name":"db","ok":false,"since_ms":10004,"waived":false,"wanted":1}
    {"address":"10.0.0.2:9000","met":false,"to":"db@n2","verdict":{"answer":"progress","left":null,"percent":40,"reason":"loading, 40 %"},"verdict_since_ms":2}
{"desired":"up","failures":0,"instance":"app@n1","reason":"waits for db (any, 0 of 1)","since_ms":10006,"starts":0,"state":"waiting"}
  {"count":"any","met":0,"name":"db","ok":false,"since_ms":10006,"waived":false,"wanted":1}
    {"address":"10.0.0.2:9000","met":false,"to":"db@n2","verdict":{"answer":"progress","left":null,"percent":40,"reason":"loading, 40 %"},"verdict_since_ms":4}

answer nobody ready
n2 claims nobody ready
neighbours
heard db@n2
show app@n1
----
listens to ["n2"]
of db@n2 was heard: nothing
app@n1 is waiting: waits for db (any, 0 of 1)
  needs db any: unmet, 0 of 1
