# An agent speaks for the instances of its own node. What another says of them is nothing, and nobody else speaks for
# this node's.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = "n2" }
[services.app]
on = "n1"
needs.db = { count = "any", proof = "agent" }
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
n3 claims db@n2 ready
n1 claims db@n2 ready
n1 claims app@n1 ready
n2 claims app@n1 ready
show app@n1
----
tell: app@n1 is waiting
app@n1 is waiting: waits for db (any, 0 of 1)
  needs db any: unmet, 0 of 1

n2 claims db@n2 ready
----
clean app@n1
tell: app@n1 is cleaning
