"""A student as a program in C.

The files, in the order in which a student passes through them (program.py calls them):

| file | |
|---|---|
| reading.py, patterns.py | ONNX to the nodes of graph.py |
| lowering.py, layers.py, joining.py | nodes (values.py) to statements (statements.py) over expressions (expressions.py) |
| slicing.py | channels and rows of an expression |
| naming.py | names of buffers and layers |
| splitting.py | a layer that joined maps are read by, as one layer for each |
| steps.py | statements that share a loop over channels |
| order.py | the order of steps that needs least memory |
| memory.py, turns.py, arrangement.py | where each buffer lies, also within a loop's turns |
| printing.py, reductions.py, text.py, addresses.py | a step as C: its loops, its sums, its expressions, its pointers |
| fixed_point.py, fixed_loops.py | sums that are rounded in integers |
| functions.py, constants.py | the tables of GELU and other functions, weights, scales |
| kernels.py | the scratch that the layers of kernels.h need |
| front_end.py, mel_pieces.py | from samples to log-mels, apart from the graph |
| source.py, memory_map.py, folder.py | student.h and student.c as a whole, and what lies around them |
"""
