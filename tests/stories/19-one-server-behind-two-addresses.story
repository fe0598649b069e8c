# Two addresses, one server (an address that was taken over): it is one, and does not make two.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
store = { on = ["n2", "n3"] }
app = { on = "n1", needs.store = 2 }
end
unit store
[run]
command = ["/usr/bin/store"]
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
answer store@n2 ready server-a
answer store@n3 ready server-a
show app@n1
----
tell: app@n1 is waiting
ask store@n2 fast
ask store@n3 fast
tell: app@n1 is waiting
ask store@n2 every 5s
ask store@n3 every 5s
app@n1 is waiting: waits for store (2, 1 of 2)
  needs store 2: unmet, 1 of 2

answer store@n3 ready server-b
show app@n1
----
clean app@n1
tell: app@n1 is cleaning
app@n1 is cleaning: judges what an earlier run left behind
  needs store 2: met, 2 of 2

