# What the journal says is taken over: the count of starts and failures, and what the process was started as.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = "n1" }
cache = { on = "n1" }
app = { on = "n1" }
job = { on = "n1" }
done = { on = "n1" }
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
unit app
[run]
command = ["/usr/bin/app"]
[ready]
probe = { kind = "tcp", port = 9001 }
end
unit job
[run]
command = ["/usr/bin/job"]
kind = "oneshot"
end
unit done
[run]
command = ["/usr/bin/done"]
kind = "oneshot"
end
on n1

searched db@n1 running 70 ready failures 2
memory db@n1
own db@n1 ready
view db@n1
----
event: db@n1 found-running: pid 70 still runs: kept
verify db@n1
tell: db@n1 is unready
tell: cache@n1 is waiting
tell: app@n1 is waiting
tell: job@n1 is waiting
tell: done@n1 is waiting
ask db@n1 every 500ms
{"incarnation":1,"main":true,"was_ready":true,"stopping":false,"completed":false,"spawned":940001000000,"starts":1,"failures":2,"flags":[]}
event: db@n1 ready: ready (fine)
tell: db@n1 is ready
ask db@n1 every 5s
{"desired":"up","failures":2,"instance":"db@n1","own":{"answer":"ready","detail":"fine"},"pid":70,"reason":"ready (fine)","since_ms":1,"starts":1,"state":"ready"}

# It ended while no agent looked, or had been seen to end.
searched cache@n1 ended
searched app@n1 ended seen
memory app@n1
----
event: cache@n1 exited: it ended while no agent was looking; its exit code is unknown
clean cache@n1
tell: cache@n1 is cleaning
clean app@n1
tell: app@n1 is cleaning
{"incarnation":1,"main":false,"was_ready":false,"stopping":false,"completed":false,"spawned":0,"starts":1,"failures":2,"flags":[]}

# A oneshot: one whose end nobody saw is not run again by itself; one that has completed has.
searched job@n1 ended
searched done@n1 ended completed
view job@n1
view done@n1
memory job@n1
----
event: job@n1 failed: result unknown: it ended while no agent was there to see how; `start` runs it again
tell: job@n1 is failed
tell: done@n1 is completed
{"desired":"up","failures":0,"instance":"job@n1","reason":"result unknown: it ended while no agent was there to see how; `start` runs it again","since_ms":2,"starts":1,"state":"failed"}
{"desired":"up","failures":0,"instance":"done@n1","reason":"","since_ms":2,"starts":1,"state":"completed"}
{"incarnation":1,"main":false,"was_ready":false,"stopping":false,"completed":false,"spawned":940008000000,"starts":1,"failures":0,"flags":[]}

# An operator may have it run again.
start job@n1
----
event: job@n1 released: by alice
clean job@n1
tell: job@n1 is cleaning
reply: job@n1 cleaning: judges what an earlier run left behind

# A second search changes nothing.
searched db@n1 nothing
show db@n1
----
db@n1 is ready: ready (fine)
