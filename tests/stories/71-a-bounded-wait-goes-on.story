# Two needs, one with a bounded wait. The wait is counted from when it began to wait, and coming near to a start
# meanwhile does not begin it anew. The need that is met has nothing to be left out for.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = "n2" }
office = { on = "n3" }
[services.app]
on = "n1"
needs.db = { count = "any", wait = "30s", then = "start" }
needs.office = "any"
end
unit db
[run]
command = ["/usr/bin/db"]
[ready]
probe = { kind = "tcp", port = 9000 }
end
unit office
[run]
command = ["/usr/bin/office"]
[ready]
probe = { kind = "tcp", port = 2002 }
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
answer office@n3 refused
wake
after 40s
view app@n1
wake
----
tell: app@n1 is waiting
ask db@n2 fast
ask office@n3 fast
tell: app@n1 is waiting
ask db@n2 every 5s
wakes in 499ms
[498ms later]
verify office@n3
{"desired":"up","failures":0,"instance":"app@n1","reason":"waits for office (any, 0 of 1)","since_ms":50006,"starts":0,"state":"waiting"}
  {"count":"any","met":1,"name":"db","ok":true,"since_ms":40004,"waived":false,"wanted":1}
    {"address":"10.0.0.2:9000","met":true,"to":"db@n2","verdict":{"answer":"ready","detail":"fine"},"verdict_since_ms":40004}
  {"count":"any","met":0,"name":"office","ok":false,"since_ms":50006,"waived":false,"wanted":1}
    {"address":"10.0.0.3:2002","met":false,"to":"office@n3","verdict":{"answer":"not-ready","kind":"refused","reason":"connection refused"},"verdict_since_ms":40003}
wakes no more
