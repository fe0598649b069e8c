# The agent died in a stop: the main process heard the signal and ended, its child did not. What is held has no process
# left, whatever became of the agent.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2" }
[services]
db = { on = "n1" }
web = { on = "n1", unit = "db" }
end
unit db
[run]
command = ["/usr/bin/db"]
[ready]
probe = { kind = "running", for = "1s" }
end
on n1

stop db@n1
searched db@n1 ended left
show db@n1
----
event: db@n1 held: by alice
save: db@n1 is held by alice
tell: db@n1 is waiting
tell: web@n1 is waiting
reply: db@n1 waiting: looking for what already runs here
sweep db@n1
tell: db@n1 is stopping
db@n1 is stopping (held): clears what is left of its processes

swept db@n1 killed 1
show db@n1
----
event: db@n1 stopped: nothing of it runs; 1 process(es) that outlived the main one were killed
tell: db@n1 is stopped
db@n1 is stopped (held): held by alice

# One that may run is cleaned up after when it is started.
searched web@n1 ended left
----
event: web@n1 exited: it ended while no agent was looking; its exit code is unknown
clean web@n1
tell: web@n1 is cleaning
