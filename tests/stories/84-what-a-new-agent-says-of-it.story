# It was ready when the agent was replaced. Until the own probe of the new one has an answer it says where it has it
# from.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2" }
[services]
db = { on = "n1" }
job = { on = "n1" }
end
unit db
[run]
command = ["/usr/bin/db"]
[ready]
probe = { kind = "tcp", port = 9000 }
end
unit job
[run]
kind = "notify"
command = ["/usr/bin/job"]
end
on n1

searched db@n1 running 5 ready
searched job@n1 running 6 ready
says job@n1 STATUS=idle
show db@n1
show job@n1
says job@n1 STATUS=
show job@n1
----
event: db@n1 found-running: pid 5 still runs: kept
verify db@n1
tell: db@n1 is unready
tell: job@n1 is waiting
ask db@n1 every 500ms
event: job@n1 found-running: pid 6 still runs: kept
event: job@n1 ready
tell: job@n1 is ready
tell: job@n1 is ready
db@n1 is unready: found running by a new agent; its own probe is asked
job@n1 is ready: idle
tell: job@n1 is ready
job@n1 is ready
