# Two brokers of one name both take the lease: an alarm, and no need for one of them is met.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
broker = { on = ["n2", "n3"] }
app = { on = "n1", needs.broker = "any" }
end
unit broker
exclusive = true
[run]
command = ["/usr/bin/broker"]
[ready]
probe = { kind = "activemq" }
end
unit app
[run]
command = ["/usr/bin/app"]
[ready]
probe = { kind = "tcp", port = 9001 }
end
on n1

searched all nothing
answer broker@n2 ready
answer broker@n3 ready
answer broker@n2 ready
show app@n1
----
tell: app@n1 is waiting
ask broker@n2 fast
ask broker@n3 fast
clean app@n1
tell: app@n1 is cleaning
ask broker@n2 every 5s
ask broker@n3 every 5s
verify broker@n2
event: app@n1 rivals: broker@n2 and broker@n3 serve at once, and only one may
app@n1 is cleaning: judges what an earlier run left behind
  needs broker any: unmet, 2 of 1

answer broker@n3 refused
show app@n1
----
event: app@n1 rivals-gone: no more serve its need broker than may
app@n1 is cleaning: judges what an earlier run left behind
  needs broker any: met, 1 of 1
