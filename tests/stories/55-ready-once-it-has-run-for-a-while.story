# A unit without a probe is ready once it has run for a second, and not before its process exists.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = "n1" }
end
unit db
[run]
command = ["/usr/bin/db"]
end
on n1

searched all nothing
cleaned db@n1 clear
wake
----
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 1)
tell: db@n1 is starting
wakes in 999ms

spawned db@n1 5
after 900ms
show db@n1
wake
after 200ms
show db@n1
wake
----
event: db@n1 started: pid 5
db@n1 is starting: its own probe has not passed yet
wakes in 97ms
[96ms later]
event: db@n1 ready
tell: db@n1 is ready
db@n1 is ready
wakes no more
