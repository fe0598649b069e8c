# A oneshot ends and nobody can say how: it is not run again by itself, not even when its need comes back.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = "n2" }
job = { on = "n1", needs.db = "any" }
end
unit db
[run]
command = ["/usr/bin/db"]
[ready]
probe = { kind = "tcp", port = 9000 }
end
unit job
[run]
command = ["/usr/bin/job"]
kind = "oneshot"
end
on n1

searched all nothing
answer db@n2 ready
cleaned job@n1 clear
answer db@n2 ready
spawned job@n1 5
exited job@n1 unknown
memory job@n1
----
tell: job@n1 is waiting
ask db@n2 fast
clean job@n1
tell: job@n1 is cleaning
ask db@n2 every 5s
verify db@n2
tell: job@n1 is cleaning
spawn job@n1 (start 1)
tell: job@n1 is starting
event: job@n1 started: pid 5, after db@n2 (fine)
event: job@n1 exited: exit code unknown (it was not this agent's child)
event: job@n1 failed: result unknown: it ended while no agent was there to see how; `start` runs it again
tell: job@n1 is failed
{"incarnation":1,"main":false,"was_ready":false,"stopping":false,"completed":false,"spawned":1000004000000,"starts":1,"failures":0,"flags":[]}

answer db@n2 refused
after 1s
answer db@n2 ready
show job@n1
----
[499ms later]
verify db@n2
job@n1 is failed: result unknown: it ended while no agent was there to see how; `start` runs it again
  needs db any: met, 1 of 1

restart job@n1
----
event: job@n1 restart-ordered: by alice
clean job@n1
tell: job@n1 is cleaning
reply: job@n1 cleaning: judges what an earlier run left behind
