# Held while it waits, while it cleans, while it is verified: nothing is started, and a start lets it go on.

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

searched all nothing
stop app@n1
----
tell: app@n1 is waiting
ask db@n2 fast
event: app@n1 held: by alice
save: app@n1 is held by alice
tell: app@n1 is stopped
ask db@n2 no more
reply: app@n1 stopped: held by alice

start app@n1
answer db@n2 ready
cleaned app@n1 clear
stop app@n1
answer db@n2 ready
show app@n1
----
event: app@n1 released: by alice
save: app@n1 is to be up
tell: app@n1 is waiting
ask db@n2 fast
reply: app@n1 waiting: waits for db (any, 0 of 1)
clean app@n1
tell: app@n1 is cleaning
ask db@n2 every 5s
verify db@n2
tell: app@n1 is cleaning
event: app@n1 held: by alice
save: app@n1 is held by alice
tell: app@n1 is stopped
ask db@n2 no more
reply: app@n1 stopped: held by alice
app@n1 is stopped (held): held by alice
  needs db any: unmet, 0 of 1

