# A need by label: who leans on an instance, and is waited for, are those of its own zone.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = { address = "10.0.0.1", labels = { zone = "a" } }, n2 = { address = "10.0.0.2", labels = { zone = "a" } }, n3 = { address = "10.0.0.3", labels = { zone = "b" } } }
[services]
cache = { on = ["n1", "n3"] }
app = { on = ["n2", "n3"], needs.cache = { count = "any", same = "zone" } }
end
unit cache
[run]
command = ["/usr/bin/cache"]
[ready]
probe = { kind = "tcp", port = 9002 }
end
unit app
[run]
command = ["/usr/bin/app"]
[ready]
probe = { kind = "tcp", port = 9001 }
end
on n1

searched all nothing
cleaned cache@n1 clear
spawned cache@n1 5
own cache@n1 ready
peer app@n2 ready
peer app@n3 ready
stop cache@n1
show cache@n1
----
clean cache@n1
tell: cache@n1 is cleaning
spawn cache@n1 (start 1)
tell: cache@n1 is starting
ask cache@n1 fast
event: cache@n1 started: pid 5
verify cache@n1
event: cache@n1 ready: ready (fine)
tell: cache@n1 is ready
ask cache@n1 every 5s
event: cache@n1 held: by alice
save: cache@n1 is held by alice
event: cache@n1 leaving: held by alice
tell: cache@n1 is stopping, vetoed
reply: cache@n1 stopping: held by alice; waits for app@n2 (ready)
cache@n1 is stopping (held): held by alice; waits for app@n2 (ready)

peer app@n2 waiting released cache@n1
----
event: cache@n1 stopping: held by alice
signal 15 to cache@n1
tell: cache@n1 is stopping, vetoed
ask cache@n1 no more

on n2

searched all nothing
peer cache@n3 ready
show app@n2
----
tell: app@n2 is waiting
ask cache@n1 fast
app@n2 is waiting: waits for cache (any, same zone, 0 of 1)
  needs cache any, same zone: unmet, 0 of 1

peer cache@n1 ready
cleaned app@n2 clear
answer cache@n1 ready
----
clean app@n2
tell: app@n2 is cleaning
verify cache@n1
tell: app@n2 is cleaning
spawn app@n2 (start 1)
tell: app@n2 is starting
ask cache@n1 every 5s
ask app@n2 fast
