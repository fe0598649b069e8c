# A new agent finds the application running, and what it needs not serving. It has heard nothing yet, and one bad answer
# is no loss; as soon as it is known, by answers or by the agent that alone can tell, it is said.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2" }
[services]
db = { on = "n2" }
init = { on = "n2" }
[services.app]
on = "n1"
needs.db = "any"
needs.init = { count = "any", proof = "agent" }
end
unit db
[run]
command = ["/usr/bin/db"]
[ready]
probe = { kind = "tcp", port = 9000 }
end
unit init
[run]
kind = "oneshot"
command = ["/usr/bin/init"]
end
unit app
[run]
command = ["/usr/bin/app"]
[ready]
probe = { kind = "tcp", port = 9001 }
end
on n1

searched app@n1 running 5 ready
own app@n1 ready
answer db@n2 refused
after 600ms
answer db@n2 refused
after 600ms
----
event: app@n1 found-running: pid 5 still runs: kept
verify app@n1
tell: app@n1 is unready
ask db@n2 every 5s
ask app@n1 every 500ms
event: app@n1 ready: ready (fine)
tell: app@n1 is ready
ask app@n1 every 5s
[499ms later]
verify db@n2
[499ms later]
verify db@n2

answer db@n2 refused
peer init@n2 failed
----
event: app@n1 need-lost: lost its need db: db (any, 0 of 1)
event: app@n1 need-lost: lost its need init: init (any, 0 of 1)
