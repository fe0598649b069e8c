# The oneshot's own node: exit code 0 is completed, anything else a failure.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
migrate = { on = "n2" }
end
unit migrate
[run]
kind = "oneshot"
command = ["/usr/bin/migrate"]
end
on n2

searched all nothing
cleaned migrate@n2 clear
spawned migrate@n2 8
exited migrate@n2 code 1
after 1s
cleaned migrate@n2 clear
spawned migrate@n2 9
exited migrate@n2 code 0
show migrate@n2
----
clean migrate@n2
tell: migrate@n2 is cleaning
spawn migrate@n2 (start 1)
tell: migrate@n2 is starting
event: migrate@n2 started: pid 8
event: migrate@n2 exited: exit code 1
event: migrate@n2 backoff: exit code 1; next start in 1.0 s
tell: migrate@n2 is backoff
[999ms later]
clean migrate@n2
tell: migrate@n2 is cleaning
spawn migrate@n2 (start 2)
tell: migrate@n2 is starting
event: migrate@n2 started: pid 9
event: migrate@n2 exited: exit code 0
event: migrate@n2 completed
tell: migrate@n2 is completed
migrate@n2 is completed

after 1m
----

