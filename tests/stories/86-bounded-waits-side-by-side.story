# Three needs. The wait for the first is over, and that is said once; the second is met and has nothing to be left out
# for, however long the third is waited for.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = "n2" }
cache = { on = "n2" }
office = { on = "n3" }
[services.app]
on = "n1"
needs.db = { count = "any", wait = "30s", then = "start" }
needs.cache = { count = "any", wait = "40s", then = "start" }
needs.office = "any"
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
answer db@n2 refused
answer cache@n2 ready
answer office@n3 refused
after 10s
wake
after 25s
wake
----
tell: app@n1 is waiting
ask db@n2 fast
ask cache@n2 fast
ask office@n3 fast
tell: app@n1 is waiting
ask cache@n2 every 5s
[497ms later]
verify db@n2
[499ms later]
verify office@n3
wakes in 19.995s
[19.994s later]
event: app@n1 waived: waited 30 s for db: starts without it
tell: app@n1 is waiting
wakes no more

after 10s
answer office@n3 silent
show app@n1
wake
----
app@n1 is waiting: waits for office (any, 0 of 1)
  needs db any: met, 0 of 1
  needs cache any: met, 1 of 1
  needs office any: unmet, 0 of 1
wakes in 498ms
