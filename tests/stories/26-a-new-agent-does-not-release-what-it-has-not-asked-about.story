# The agent of a dependent is replaced at the very moment when what it leans on is to be stopped. It has heard nothing
# yet, so it must not say that it needs nothing.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = "n2" }
app = { on = "n1", needs.db = "any" }
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

searched app@n1 running 70 ready
peer db@n2 stopping veto 3
----
event: app@n1 found-running: pid 70 still runs: kept
verify app@n1
tell: app@n1 is unready
ask db@n2 every 5s
ask app@n1 every 500ms

answer db@n2 ready
----
event: app@n1 leaving: its need db would be lost: db@n2 is being stopped (held by alice)
event: app@n1 stopping: its need db would be lost: db@n2 is being stopped (held by alice)
signal 15 to app@n1
tell: app@n1 is stopping, vetoed
ask app@n1 no more

exited app@n1 code 0
swept app@n1
----
event: app@n1 exited: exit code 0
sweep app@n1
tell: app@n1 is stopping, vetoed
event: app@n1 stopped: nothing of it runs
tell: app@n1 is waiting, has released db@n2
ask db@n2 fast

