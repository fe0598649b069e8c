# The journal remembers a completed oneshot, and the unit has become a daemon since: it is started.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = "n1" }
end
unit db
[run]
command = ["/usr/bin/db"]
[ready]
probe = { kind = "tcp", port = 9000 }
end
on n1

searched db@n1 ended completed
----
clean db@n1
tell: db@n1 is cleaning
