"""`python -m streamer` is `streamer`."""

if __name__ == "__main__":
    # Not above: a spawned process imports this file again under another name and needs none of it.
    from streamer.cli import main

    main()
