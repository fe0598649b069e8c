# Between the cleaning and the start a second candidate turns up, with an answer that was begun before the cleaning.
# It is asked anew at once, although a question to it was on its way.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = ["n2", "n3"] }
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
answer db@n2 ready
answer db@n3 refused
after 600ms
cleaned app@n1 clear
late answer db@n3 ready
----
tell: app@n1 is waiting
ask db@n2 fast
ask db@n3 fast
clean app@n1
tell: app@n1 is cleaning
ask db@n2 every 5s
ask db@n3 every 5s
[499ms later]
verify db@n3
verify db@n2
tell: app@n1 is cleaning

answer db@n3 ready
----
spawn app@n1 (start 1)
tell: app@n1 is starting
ask app@n1 fast
