# Two streams. When one ends, its agent's word proves nothing any more, and the other's still does. The same word
# again, on a new stream, counts again.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = ["n2", "n3"] }
[services.app]
on = "n1"
needs.db = { count = 2, proof = "agent" }
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
peer db@n2 ready
peer db@n3 ready
show app@n1
----
tell: app@n1 is waiting
tell: app@n1 is waiting
clean app@n1
tell: app@n1 is cleaning
app@n1 is cleaning: judges what an earlier run left behind
  needs db 2: met, 2 of 2

lost n2
after 1s
view app@n1
----
{"desired":"up","failures":0,"instance":"app@n1","reason":"judges what an earlier run left behind","since_ms":1004,"starts":0,"state":"cleaning"}
  {"count":"2","met":1,"name":"db","ok":false,"since_ms":1002,"waived":false,"wanted":2}
    {"met":false,"peer":{"connected":false,"heard_ms":1005,"reason":"","state":"ready"},"to":"db@n2"}
    {"met":true,"peer":{"connected":true,"heard_ms":1004,"reason":"","state":"ready"},"to":"db@n3"}

peer db@n2 ready
show app@n1
----
app@n1 is cleaning: judges what an earlier run left behind
  needs db 2: met, 2 of 2
