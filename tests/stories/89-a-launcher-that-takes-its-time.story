# It counts as ready once it has run for a second, and its launcher takes longer than that. There is nothing to be done
# at that moment, and nobody is woken again and again for it; the daemon is what counts.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1" }
[services]
db = { on = "n1" }
end
unit db
[run]
kind = "forking"
command = ["/usr/bin/db"]
pidfile = "/run/db.pid"
[ready]
probe = { kind = "running", for = "1s" }
within = "30s"
end
on n1

searched all nothing
cleaned db@n1 clear
spawned db@n1 5
after 5s
wake
show db@n1
----
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 1)
tell: db@n1 is starting
event: db@n1 started: pid 5
wakes in 24.997s
db@n1 is starting: its own probe has not passed yet

exited db@n1 code 0
main db@n1 6
show db@n1
----
find the main process of db@n1
event: db@n1 main-found: the daemon is pid 6
event: db@n1 ready
tell: db@n1 is ready
db@n1 is ready
