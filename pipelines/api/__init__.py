"""The library: what those get who import `imagesets` and never hear of anything else.

`place` says where the data lie, `loading` reads what is there (and imports no more than that
takes), `making` fetches and makes what is not, `asking` tells what there is and where it comes
from. `pipelines` offers all of it by name. Not here: any of the work (the rooms below).
"""
