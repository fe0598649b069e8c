# It waits, with both candidates vetoed: it releases both, each once, although two needs name one of them.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = ["n2", "n3"] }
[services.app]
on = "n1"
needs.db = "any"
needs.again = { of = "db", count = 2 }
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
peer db@n2 stopping veto 1
peer db@n3 stopping veto 2
----
tell: app@n1 is waiting
ask db@n2 fast
ask db@n3 fast
tell: app@n1 is waiting, has released db@n2
tell: app@n1 is waiting, has released db@n2, has released db@n3
