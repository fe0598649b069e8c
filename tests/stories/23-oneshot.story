# A oneshot that succeeded is completed, and is not run again when the agent is replaced; what needs it on another
# machine takes its agent's word, for there is nobody else to ask.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
migrate = { on = "n2" }
[services.app]
on = "n1"
needs.migrate = { count = "any", proof = "agent" }
end
unit migrate
[run]
kind = "oneshot"
command = ["/usr/bin/migrate"]
end
unit app
[run]
command = ["/usr/bin/app"]
[ready]
probe = { kind = "tcp", port = 9001 }
end
on n1

searched all nothing
peer migrate@n2 starting
show app@n1
----
tell: app@n1 is waiting
app@n1 is waiting: waits for migrate (any, 0 of 1)
  needs migrate any: unmet, 0 of 1

peer migrate@n2 completed
cleaned app@n1 clear
spawned app@n1 5
----
clean app@n1
tell: app@n1 is cleaning
spawn app@n1 (start 1)
tell: app@n1 is starting
ask app@n1 fast
event: app@n1 started: pid 5, after migrate@n2 (its agent says completed)
verify app@n1

