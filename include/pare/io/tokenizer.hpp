// SPDX-License-Identifier: Apache-2.0
// The tokenizer.bin of llama2.c: int32 longest piece, then for every token float32 score, int32 length, bytes.
// Token 0 is <unk>, 1 begins a text (BOS), 2 ends it (EOS), 3 + b is the byte b (written <0x..>), the rest are pieces.
// Encoding is byte-pair merging by score, done here with a heap over a linked list: O(n log n), not O(n^2).
#pragma once

#include <pare/core/contract.hpp>
#include <pare/core/index.hpp>
#include <pare/core/result.hpp>
#include <pare/io/bytes.hpp>
#include <pare/io/file.hpp>
#include <pare/io/utf8.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <queue>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace pare::inline PARE_ABI {

/// Text to token ids and back.
class tokenizer {
 public:
  static constexpr int bos = 1;
  static constexpr int eos = 2;

  /// Reads a file that must hold exactly `vocabulary_size` tokens. Errors: errc::io, errc::malformed.
  [[nodiscard]] static result<tokenizer> open(std::filesystem::path const& path, index_t vocabulary_size) {
    PARE_TRY(auto const bytes, read_file(path));
    auto out = parse(bytes, vocabulary_size);
    if (!out) return in(path.string(), std::move(out.error()));
    return out;
  }

  /// The same for bytes in memory.
  [[nodiscard]] static result<tokenizer> parse(std::span<std::byte const> bytes, index_t vocabulary_size) {
    auto const malformed = [](std::string what) { return error{errc::malformed, "", std::move(what)}; };
    if (vocabulary_size < 3)
      return error{errc::out_of_range, "",
                   "a vocabulary has 3 tokens or more, asked for " + std::to_string(vocabulary_size)};
    if (bytes.size() < 4) return malformed("ends inside the header");
    auto const longest = load_little<std::uint32_t>(bytes.data());
    bytes = bytes.subspan(4);
    tokenizer out;
    for (index_t i = 0; i < vocabulary_size; ++i) {
      std::string const token = "token " + std::to_string(i);
      if (bytes.size() < 8)
        return malformed("ends at " + token + " of the " + std::to_string(vocabulary_size) + " that were expected");
      float const score = std::bit_cast<float>(load_little<std::uint32_t>(bytes.data()));
      auto const length = load_little<std::uint32_t>(bytes.data() + 4);
      if (!std::isfinite(score)) return malformed(token + " has a score that is not finite");
      if (length > longest || length > bytes.size() - 8)
        return malformed(token + " claims " + std::to_string(length) + " bytes; the longest may have " +
                         std::to_string(longest) + ", and " + std::to_string(bytes.size() - 8) + " follow");
      out.pieces_.emplace_back(as_text(bytes.subspan(8, length)));
      out.scores_.push_back(score);
      bytes = bytes.subspan(8 + length);
    }
    if (!bytes.empty())
      return malformed("has " + std::to_string(bytes.size()) + " bytes after the " + std::to_string(vocabulary_size) +
                       " tokens that were expected");
    out.longest_ = longest;
    for (std::size_t i = 0; i < out.pieces_.size(); ++i)
      out.ids_.emplace(out.pieces_[i], static_cast<int>(i));  // the first of equal pieces counts
    out.has_bytes_ = out.pieces_.size() >= first_byte + 256;
    for (unsigned b = 0; b < 256 && out.has_bytes_; ++b) out.has_bytes_ = out.pieces_[first_byte + b] == byte_name(b);
    return out;
  }

  [[nodiscard]] index_t vocabulary_size() const noexcept { return static_cast<index_t>(pieces_.size()); }

  /// The text of a token as the file has it. Pre: 0 <= id < vocabulary_size().
  [[nodiscard]] std::string_view piece(int id) const {
    PARE_EXPECTS(id >= 0 && id < vocabulary_size(), "tokenizer: the token id must be in the vocabulary");
    return pieces_[static_cast<std::size_t>(id)];
  }

  /// The tokens of a text: BOS, a space in front of a text that is not empty, each code point as its piece or else as
  /// its bytes; then, as long as one is there, the neighbours whose joined piece has the highest score (leftmost
  /// on a tie) are joined. Bytes that are not UTF-8 become byte tokens.
  /// Errors: errc::out_of_range for 4 GiB and more; errc::unsupported with the byte offset where there is neither a
  /// piece nor byte tokens.
  [[nodiscard]] result<std::vector<int>> encode(std::string_view text, bool with_bos = true) const {
    if (text.size() >= none)
      return error{errc::out_of_range, "", "a text of " + std::to_string(text.size()) + " bytes; encode it in parts"};
    std::vector<symbol> symbols;
    symbols.reserve(text.size() + 1);
    if (!text.empty() && !append(symbols, " "))
      return error{errc::unsupported, "byte 0",
                   "the vocabulary has neither a piece nor byte tokens for the space "
                   "in front of a text"};
    for (std::size_t at = 0; at < text.size();) {
      std::size_t const length = std::max<std::size_t>(code_point_length(text.substr(at)), 1);
      if (!append(symbols, text.substr(at, length)))
        return error{errc::unsupported, "byte " + std::to_string(at),
                     "the vocabulary has neither a piece nor byte tokens for " + in_quotes(text.substr(at, length))};
      at += length;
    }
    merge(symbols);
    std::vector<int> out;
    if (with_bos) out.push_back(bos);
    for (symbol const& s : symbols)
      if (s.id != joined) out.push_back(s.id);
    return out;
  }

  /// The text of tokens. BOS and EOS have none; the space that encode() puts in front is taken away after BOS.
  /// Pre: all ids in the vocabulary.
  [[nodiscard]] std::string decode(std::span<int const> tokens) const {
    std::string out;
    for (std::size_t i = 0; i < tokens.size(); ++i) out += decode_one(tokens[i], i > 0 && tokens[i - 1] == bos);
    return out;
  }

  /// What one token adds to a text; `after_bos` where the token before it was BOS.
  [[nodiscard]] std::string decode_one(int id, bool after_bos) const {
    std::string_view text = piece(id);
    if (id == bos || id == eos) return {};
    if (is_byte(id)) return std::string(1, static_cast<char>(id - static_cast<int>(first_byte)));
    if (after_bos && text.starts_with(' ')) text.remove_prefix(1);
    return std::string(text);
  }

 private:
  static constexpr std::size_t first_byte = 3;
  static constexpr int joined = -1;  // id of a symbol that went into its left neighbour

  struct symbol {
    int id;
    std::uint32_t previous;  // neighbours that are still there; `none` at the ends
    std::uint32_t next;
  };
  static constexpr std::uint32_t none = 0xffffffffu;

  /// A possible join of the symbols `left` and its next one; stale once either of them has changed.
  struct candidate {
    float score;
    std::uint32_t left;
    int left_id;
    int right_id;
    int id;
    friend bool operator<(candidate const& a, candidate const& b) noexcept {
      return a.score != b.score ? a.score < b.score : a.left > b.left;  // the top: highest score, leftmost
    }
  };

  [[nodiscard]] static std::string byte_name(unsigned b) {
    constexpr char digits[] = "0123456789ABCDEF";
    return std::string("<0x") + digits[b >> 4] + digits[b & 15] + ">";
  }
  [[nodiscard]] bool is_byte(int id) const noexcept {
    return has_bytes_ && id >= static_cast<int>(first_byte) && id < static_cast<int>(first_byte) + 256;
  }

  /// Appends a code point (or a broken byte) as its piece or its bytes; false where there is neither.
  bool append(std::vector<symbol>& symbols, std::string_view code_point) const {
    auto const push = [&](int id) {
      auto const n = static_cast<std::uint32_t>(symbols.size());
      if (n > 0) symbols.back().next = n;
      symbols.push_back({id, n == 0 ? none : n - 1, none});
    };
    if (auto const at = ids_.find(std::string(code_point)); code_point_length(code_point) != 0 && at != ids_.end())
      return push(at->second), true;
    if (!has_bytes_) return false;
    for (char c : code_point) push(static_cast<int>(first_byte + static_cast<unsigned char>(c)));
    return true;
  }

  void merge(std::vector<symbol>& symbols) const {
    std::priority_queue<candidate> heap;
    std::string both;
    auto const consider = [&](std::uint32_t left) {
      if (left == none || symbols[left].next == none) return;
      int const a = symbols[left].id;
      int const b = symbols[symbols[left].next].id;
      std::string_view const left_piece = piece(a);
      std::string_view const right_piece = piece(b);
      if (left_piece.size() + right_piece.size() > longest_) return;
      both.assign(left_piece).append(right_piece);
      if (auto const at = ids_.find(both); at != ids_.end())
        heap.push({scores_[static_cast<std::size_t>(at->second)], left, a, b, at->second});
    };
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) consider(static_cast<std::uint32_t>(i));
    while (!heap.empty()) {
      candidate const c = heap.top();
      heap.pop();
      symbol& left = symbols[c.left];
      if (left.id != c.left_id || left.next == none || symbols[left.next].id != c.right_id) continue;
      symbol& right = symbols[left.next];
      left.id = c.id;
      left.next = right.next;
      right.id = joined;
      if (left.next != none) symbols[left.next].previous = c.left;
      consider(left.previous);
      consider(c.left);
    }
  }

  std::vector<std::string> pieces_;
  std::vector<float> scores_;
  std::unordered_map<std::string, int> ids_;
  std::size_t longest_ = 0;
  bool has_bytes_ = false;
};

}  // namespace pare::inline PARE_ABI
