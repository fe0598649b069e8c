# A question that is never answered, not even by its own deadline, was lost on the way. It is asked again; the start
# is neither given up nor made without the answer.

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
answer db@n2 ready
cleaned app@n1 clear
----
tell: app@n1 is waiting
ask db@n2 fast
clean app@n1
tell: app@n1 is cleaning
ask db@n2 every 5s
verify db@n2
tell: app@n1 is cleaning

after 8s
show app@n1
----
[3.499s later]
verify db@n2
[6.999s later]
verify db@n2
app@n1 is cleaning: asks what it needs once more
  needs db any: met, 1 of 1

answer db@n2 ready
----
spawn app@n1 (start 1)
tell: app@n1 is starting
ask app@n1 fast
