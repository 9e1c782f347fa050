"""What runs assets: by hand (`runs`, `jobs`), at a time (`refresh`), or when something happens.

`conditions`, `sensors` and the schedule start runs by themselves once they are turned on in the UI,
under Automation: `weekly_refresh`, `mirrors_changed` or `declarative`; one of them is enough.
`mirrors` looks at publishers, `notifications` tells people, `passwords` removes those that 0.1.0
left in Dagster's databases.

Not here: what an asset does. A new job or sensor is a function in `jobs` or `sensors`, and its name
stands in `assets.definitions`.
"""
