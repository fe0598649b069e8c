# A need on the same node: only the neighbour on this machine leans on it, and is waited for.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
cache = { on = ["n1", "n2"] }
app = { on = ["n1", "n2"], needs.cache = "same-node" }
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
cleaned app@n1 clear
answer cache@n1 ready
spawned app@n1 6
own app@n1 ready
peer app@n2 ready
----
clean cache@n1
tell: cache@n1 is cleaning
tell: app@n1 is waiting
ask cache@n1 fast
tell: app@n1 is waiting
spawn cache@n1 (start 1)
tell: cache@n1 is starting
event: cache@n1 started: pid 5
verify cache@n1
event: cache@n1 ready: ready (fine)
tell: cache@n1 is ready
clean app@n1
tell: app@n1 is cleaning
ask cache@n1 every 5s
verify cache@n1
tell: app@n1 is cleaning
spawn app@n1 (start 1)
tell: app@n1 is starting
ask app@n1 fast
event: app@n1 started: pid 6, after cache@n1 (fine)
verify app@n1
event: app@n1 ready: ready (fine)
tell: app@n1 is ready
ask app@n1 every 5s

stop cache@n1
exited app@n1 code 0
swept app@n1
----
event: cache@n1 held: by alice
save: cache@n1 is held by alice
event: cache@n1 leaving: held by alice
tell: cache@n1 is stopping, vetoed
event: app@n1 leaving: its need cache would be lost: cache@n1 is held by alice
event: app@n1 stopping: its need cache would be lost: cache@n1 is held by alice
signal 15 to app@n1
tell: app@n1 is stopping, vetoed
tell: cache@n1 is stopping, vetoed
verify cache@n1
ask app@n1 no more
reply: cache@n1 stopping: held by alice; waits for app@n1 (stopping)
event: app@n1 exited: exit code 0
sweep app@n1
tell: app@n1 is stopping, vetoed
event: app@n1 stopped: nothing of it runs
tell: app@n1 is waiting, has released cache@n1
event: cache@n1 stopping: held by alice
signal 15 to cache@n1
tell: cache@n1 is stopping, vetoed
ask cache@n1 fast
